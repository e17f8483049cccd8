-- Run by library/postgresql_databases.py, which sets :owner, :database and :verifier.
-- psql prints the command tag of every statement that changes something, and nothing else; in check mode, where \gexec
-- is \g, it prints the statements instead.
\set VERBOSITY terse
\set QUIET on
SET log_statement = none; -- the verifier is no business of the log either
SET log_min_error_statement = panic;
\set QUIET off

SELECT format('CREATE ROLE %I', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = :'owner')
\gexec

SELECT format(
    'ALTER ROLE %I LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS PASSWORD %L', :'owner', :'verifier'
)
FROM pg_authid
WHERE rolname = :'owner' AND (
    rolpassword IS DISTINCT FROM :'verifier'
    OR NOT rolcanlogin OR rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls
)
\gexec

SELECT format('CREATE DATABASE %I OWNER %I ENCODING UTF8 TEMPLATE template0', :'database', :'owner')
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database')
\gexec

SELECT format('ALTER DATABASE %I OWNER TO %I', :'database', :'owner')
FROM pg_database
WHERE datname = :'database' AND pg_get_userbyid(datdba) <> :'owner'
\gexec

-- Nobody else gets in; "public" has oid 0 in an access list, and an empty list means the built-in rights.
SELECT format('REVOKE ALL ON DATABASE %I FROM PUBLIC', :'database')
FROM pg_database
WHERE datname = :'database'
    AND EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) WHERE grantee = 0)
\gexec

SELECT NOT EXISTS (SELECT FROM pg_database WHERE datname = :'database') AS missing
\gset
\if :missing
    \quit -- in check mode it is not made
\endif
\set QUIET on
\connect :"database"
\set QUIET off

-- From PostgreSQL 15 on, pg_database_owner owns the schema in a new database; before, everybody may create in it.
SELECT format('ALTER SCHEMA public OWNER TO %I', :'owner')
FROM pg_namespace
WHERE nspname = 'public' AND pg_get_userbyid(nspowner) NOT IN (:'owner', 'pg_database_owner')
\gexec

SELECT 'REVOKE CREATE ON SCHEMA public FROM PUBLIC'
FROM pg_namespace
WHERE nspname = 'public'
    AND EXISTS (SELECT FROM aclexplode(nspacl) WHERE grantee = 0 AND privilege_type = 'CREATE')
\gexec
