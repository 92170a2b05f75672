"""Everything that is written under a claim, one file per verb, around one fence.

The fence is inside each verb's statement: the agent, the token's hash, and a lease that has not ended, by
the database's clock. A turn has them exactly while it runs (a CHECK of the schema), so its state need not be
asked as well. A statement that changes nothing then asks `fence.py` why.
"""
