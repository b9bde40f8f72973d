"""Entities and queries → image candidates, images, shards."""
