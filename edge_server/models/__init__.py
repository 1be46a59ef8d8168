"""What a model is, how weights of any origin become one, and where models live on disk."""
