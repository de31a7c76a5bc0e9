"""What onnxruntime shows: shapes at two sizes, what an op does alone; and what is fed to find out."""
