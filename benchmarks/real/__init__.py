"""What shrinking real checkpoints costs and brings, beside what people would use instead."""
