// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// localhost is the one name that stands for an address here: any other would
// make a start wait for a name server.
const localhost = "localhost"

// listenAt is the kind of a place to listen at: ADDRESS:PORT, localhost:PORT,
// :PORT for all addresses, the absolute name of a Unix socket, or none.
var listenAt = kind[string]{
	parse: func(s string) (string, error) {
		switch {
		case isNone(s):
			return "", nil
		case strings.HasPrefix(s, "/"):
			name, err := path(maxUDSPath).parse(s)
			return filepath.Clean(name), err
		}
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			hint := ""
			switch _, e := parseNumber(s, 1, 65535); {
			case e == nil:
				hint = " (a port alone is :" + s + ")"
			case strings.Count(s, ":") > 1:
				hint = " (an IPv6 address stands in brackets)"
			}
			return "", fmt.Errorf("%q is none of ADDRESS:PORT, :PORT, the name of a Unix socket with a slash in front, or none%s", s, hint)
		}
		n, err := parseNumber(port, 1, 65535)
		if err != nil {
			return "", fmt.Errorf("%q: port %w", s, err)
		}
		port = strconv.FormatInt(n, 10)
		if host == "" || strings.EqualFold(host, localhost) {
			return strings.ToLower(host) + ":" + port, nil
		}
		a, err := netip.ParseAddr(host)
		switch {
		case err != nil:
			return "", fmt.Errorf("%q: %q is neither an address nor %s", s, host, localhost)
		case a.IsMulticast() || a == broadcast:
			return "", fmt.Errorf("%q: %s is neither a unicast address nor the wildcard", s, a)
		}
		// A zone is fine here: it says on which link a link-local address is.
		if a.Zone() != "" {
			if _, err := device.parse(a.Zone()); err != nil {
				return "", fmt.Errorf("%q: zone %w", s, err)
			}
		}
		return net.JoinHostPort(a.Unmap().String(), port), nil
	},
	format: func(s string) string {
		if s == "" {
			return none
		}
		return s
	},
}
