"""The slow interpreter that defines what integers do, step by step."""
