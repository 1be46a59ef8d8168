"""The maths of pictures and predictions on arrays. No threads, disk, engine, JSON or HTTP."""
