"""What a turn keeps in public, so that its handler can begin again from the top and find what it had."""
