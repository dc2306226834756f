package wire

import (
	"unicode/utf8"

	"github.com/xdg-go/stringprep"
	"golang.org/x/text/unicode/norm"
)

// prohibited are the RFC 3454 tables that RFC 4013 forbids in a password, with
// the code points not assigned in Unicode 3.2.
var prohibited = []stringprep.Set{
	stringprep.TableA1, stringprep.TableC1_2, stringprep.TableC2_1, stringprep.TableC2_2,
	stringprep.TableC3, stringprep.TableC4, stringprep.TableC5, stringprep.TableC6,
	stringprep.TableC7, stringprep.TableC8, stringprep.TableC9,
}

// saslPrep normalises a password as PostgreSQL and libpq do, which differs from
// RFC 4013 in three points: what it refuses is used as it is; characters are
// forbidden as they are before normalisation; and U+200B, which is both a space
// and a character mapped to nothing, is a space.
func saslPrep(password string) string {
	if !utf8.ValidString(password) {
		return password
	}
	mapped := make([]rune, 0, len(password))
	for _, r := range password {
		if stringprep.TableC1_2.Contains(r) {
			mapped = append(mapped, ' ')
		} else if _, nothing := stringprep.TableB1[r]; !nothing {
			mapped = append(mapped, r)
		}
	}
	if len(mapped) == 0 || !allowed(mapped) || !bidiAllowed(mapped) {
		return password
	}
	return norm.NFKC.String(string(mapped))
}

func allowed(runes []rune) bool {
	for _, r := range runes {
		for _, table := range prohibited {
			if table.Contains(r) {
				return false
			}
		}
	}
	return true
}

// bidiAllowed holds RFC 3454, section 6: with a right-to-left character there is
// no left-to-right one, and both ends are right-to-left.
func bidiAllowed(runes []rune) bool {
	var rightToLeft, leftToRight bool
	for _, r := range runes {
		rightToLeft = rightToLeft || stringprep.TableD1.Contains(r)
		leftToRight = leftToRight || stringprep.TableD2.Contains(r)
	}
	return !rightToLeft || !leftToRight &&
		stringprep.TableD1.Contains(runes[0]) && stringprep.TableD1.Contains(runes[len(runes)-1])
}
