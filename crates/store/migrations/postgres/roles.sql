-- The services' roles, shared by all databases of a server. Run by every migration: a restored or
-- second database finds them made already. Who may not make roles needs an administrator to make
-- them beforehand; membership matters only to logins that SET ROLE.
DO $$
DECLARE
    service TEXT;
BEGIN
    FOREACH service IN ARRAY ARRAY['caracalapi', 'caracalsts', 'caracalgateway', 'caracalaudit',
        'caracalcoordinator']
    LOOP
        IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = service) THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I NOLOGIN', service);
            EXCEPTION WHEN duplicate_object OR unique_violation THEN
                NULL;
            END;
        END IF;
        BEGIN
            EXECUTE format('GRANT %I TO CURRENT_USER', service);
        EXCEPTION WHEN insufficient_privilege OR invalid_grant_operation THEN
            NULL;
        END;
        EXECUTE format('GRANT USAGE ON SCHEMA caracal TO %I', service);
        EXECUTE format('GRANT SELECT ON caracal.schema_migrations TO %I', service);
    END LOOP;
END $$;
