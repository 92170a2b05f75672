"""What the kernel keeps, and the SQL that keeps it: one file per noun, one statement per verb."""
