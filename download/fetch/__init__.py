"""Candidates → their images as they were served: politely, safely, each URL once."""
