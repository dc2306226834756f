DROP FUNCTION IF EXISTS qvp.create_vector_index(text, text, text, text, integer, integer, integer);
DROP FUNCTION IF EXISTS qvp.choose_vector_index(text, text, text, text, integer, integer, integer);
DROP TYPE IF EXISTS qvp.vector_index;
