-- Finds the credentials that are to be removed (difference 36). Few are ever revoked.
create index cg_credentials_revoked on cg_credentials (revoked_at) where status = 'revoked';
