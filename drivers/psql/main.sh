# What psql sees of a server: "# name: " and then what psql prints. Process ids are
# all that is taken out.
{
	cat before.sql
	for file in steps styles; do
		# A comment line begins a new session.
		awk -F '\t' '/^#/ { print "\\c -reuse-previous=on"; next } { printf "\\echo \047# %s: \047\n%s \\g\n", $1, $2 }' "$DRIVER_FILES/$file.tsv"
		echo '\c -reuse-previous=on'
	done
	awk -F '\t' '{ printf "\\echo \047# %s: \047\nSELECT %s AS %s \\g\n", $1, $2, $1 }' "$DRIVER_FILES/types.tsv"
	cat after.sql
} | PGAPPNAME=psql psql -X -v ON_ERROR_STOP=0 -v schema="$DRIVER_SCHEMA" 2>&1 | sed -E 's/(process with PID|PID) [0-9]+/\1 N/'
