"""What each verb can be told: one frozen object a verb, declared once for Python and the shell."""
