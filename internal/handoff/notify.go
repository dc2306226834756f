package handoff

import (
	"fmt"
	"net"
	"os"
	"strings"
)

// notify tells systemd the state of the service (sd_notify(3)); without
// NOTIFY_SOCKET there is nobody to tell.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if strings.HasPrefix(path, "@") {
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot tell systemd %q: %w", state, err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("cannot tell systemd %q: %w", state, err)
	}
	return nil
}
