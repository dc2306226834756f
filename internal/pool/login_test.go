package pool

import "testing"

// TestKeysAreOfThePasswordThatIsInForce has the same salt for both, as when a file
// with a wrong password is mended and read again.
func TestKeysAreOfThePasswordThatIsInForce(t *testing.T) {
	var d derivedKeys
	wrong, err := d.of("wrong", []byte("salt"), 10)
	if err != nil {
		t.Fatal(err)
	}
	right, err := d.of("right", []byte("salt"), 10)
	if err != nil || right == wrong {
		t.Errorf("another password has the same keys, or %v", err)
	}
	if again, err := d.of("right", []byte("salt"), 10); err != nil || again != right {
		t.Errorf("the same password has other keys, or %v", err)
	}
}
