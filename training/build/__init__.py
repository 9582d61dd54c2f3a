"""MSMU-style data: from 3-D scans to questions with exact answers."""
