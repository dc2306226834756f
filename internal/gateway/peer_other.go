//go:build !linux

package gateway

import (
	"fmt"
	"net"
	"runtime"
)

func peerUser(net.Conn) (string, error) {
	return "", fmt.Errorf("cannot say on %s whose process a client is", runtime.GOOS)
}
