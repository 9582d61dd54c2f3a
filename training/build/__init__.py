"""MSMU-style data: from scene graphs to questions with exact answers."""
