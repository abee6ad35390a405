"""What this machine makes of the program: its own code against plain code of the same result, and against floors."""
