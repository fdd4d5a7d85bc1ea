"""`meshctl doctor`: what a DNS server makes of meshd's answers, and which setting mends it."""
