"""Consolidate: adopted blobs become objects of ours."""
