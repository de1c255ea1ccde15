"""Building, loading, adapting and saving models."""
