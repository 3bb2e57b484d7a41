// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
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
		if i := strings.LastIndexByte(s, ':'); i == 0 || i > 0 && strings.EqualFold(s[:i], localhost) {
			n, err := parseNumber(s[i+1:], 1, 65535)
			if err != nil {
				return "", fmt.Errorf("%q: port %w", s, err)
			}
			return strings.ToLower(s[:i+1]) + strconv.FormatInt(n, 10), nil
		}
		ap, err := netip.ParseAddrPort(s)
		a := ap.Addr().Unmap()
		switch {
		case err != nil:
			return "", fmt.Errorf("%q is none of ADDRESS:PORT, localhost:PORT, :PORT, the name of a Unix socket with a slash in front, or none%s", s, nearly(s))
		case ap.Port() == 0:
			return "", fmt.Errorf("%q: port 0 is out of range 1..65535", s)
		case a.IsMulticast() || a == broadcast:
			return "", fmt.Errorf("%q: %s is neither a unicast address nor the wildcard", s, a)
		case a.Zone() != "": // which is fine here: it says on which link a link-local address is
			if _, err := device.parse(a.Zone()); err != nil {
				return "", fmt.Errorf("%q: zone %w", s, err)
			}
		}
		return netip.AddrPortFrom(a, ap.Port()).String(), nil
	},
	format: func(s string) string {
		if s == "" {
			return none
		}
		return s
	},
}

// nearly says how what is no place to listen at is to be written, where that is
// known.
func nearly(s string) string {
	if _, err := parseNumber(s, 1, 65535); err == nil {
		return " (a port alone is :" + s + ")"
	}
	if strings.Count(s, ":") > 1 && !strings.HasPrefix(s, "[") {
		return " (an IPv6 address stands in brackets)"
	}
	return ""
}
