"""Conversations and frames as Parquet and Arrow: schemas, one reader and one writer."""
