"""The API: the resources as pydantic models, their validation, and what the parts agree on; imports nothing heavy."""
