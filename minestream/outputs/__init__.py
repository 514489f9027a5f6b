"""Rows take their shape and files appear whole: Parquet parts, manifest, resume, stores, trainer formats."""
