"""The API: both resources as pydantic models, their validation, and what the parts agree on. Nothing heavy is imported."""
