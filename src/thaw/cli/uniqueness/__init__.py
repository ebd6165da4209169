"""`thaw doctor uniqueness`: thousands of clones of one snapshot, and which random values they have in common.

`probe` is the function that is published (it runs in the sandbox); `sources` is the list of what it draws from, with
what is expected of each and why; `comparing` publishes, calls and compares; `command` prints.
"""
