-- Makes the database `caracal` and its owner, a login `caracal` that is no superuser. An administrator
-- runs it once, with psql; on a managed server that is the administrator that the provider gives.
--
--   CARACAL_OWNER_PASSWORD=... psql "$ADMIN_URL" -f create-database.sql
--
-- The owner may make roles: `caracal migrate` makes one for each service and gives it its login.
-- Running it again sets the owner's password and changes nothing else.
\set ON_ERROR_STOP on
\set owner_password `printenv CARACAL_OWNER_PASSWORD || cat /run/secrets/ownerDbPassword`
SELECT :'owner_password' = '' AS nothing \gset
\if :nothing
\warn 'CARACAL_OWNER_PASSWORD is not set'
SELECT 1/0 AS "CARACAL_OWNER_PASSWORD is not set";
\endif

SELECT 'CREATE ROLE caracal CREATEROLE' WHERE to_regrole('caracal') IS NULL \gexec
ALTER ROLE caracal LOGIN PASSWORD :'owner_password';

-- A managed server's administrator must be a member of a role to give it a database.
GRANT caracal TO CURRENT_USER;
SELECT 'CREATE DATABASE caracal OWNER caracal ENCODING ''UTF8'' TEMPLATE template0'
WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'caracal') \gexec
