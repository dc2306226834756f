DO $do$
DECLARE
  made regprocedure;
BEGIN
  FOR made IN
    SELECT p.oid::regprocedure FROM pg_proc p
    WHERE p.pronamespace = to_regnamespace('qvp')
      AND p.proname IN ('find_similar_regimes', 'insert_regime', 'regime_vector', 'find_similar_features', 'insert_embedding')
  LOOP
    EXECUTE 'DROP FUNCTION ' || made;
  END LOOP;
END
$do$;
DROP TYPE IF EXISTS qvp.similar_regime;
DROP TYPE IF EXISTS qvp.similar_feature;
