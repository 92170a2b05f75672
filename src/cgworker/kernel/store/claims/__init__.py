"""Everything that is written under a claim, one file per verb, around one fence.

The fence is inside each verb's statement: `state = 'running'`, the agent, the token's hash, and a lease that
has not ended, by the database's clock. A statement that changes nothing then asks `fence.py` why.
"""
