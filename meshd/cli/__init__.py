"""The two programs: `meshd` (serve, answer) and `meshctl` (everything else)."""
