"""What each verb does, as a function: the command line and Python's interface both call these.

Functions take networks and data sets that are read already, and give back what they made. Files,
words and exit statuses are the verbs' business. What a verb needs is imported when it is needed.
"""
