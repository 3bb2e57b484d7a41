// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"vxsnd/internal/vxlan"
)

const (
	// none is what a value that stands for nothing is written as; nothing at
	// all is fine too.
	none = "none"

	// auto is what a value that is found out at start is written as.
	auto = "auto"

	// maxUDSPath is the longest name of a Unix socket: sun_path has 108 bytes
	// with the final zero (unix(7)).
	maxUDSPath = 107

	// maxDevice is the longest name of a network device: IFNAMSIZ is 16 with
	// the final zero.
	maxDevice = 15

	// maxHost is the longest host name (RFC 1035, section 2.3.4).
	maxHost = 253
)

// fields splits a list at blanks and commas.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool {
		return r == ' ' || r == '\t' || r == ','
	})
}

func isNone(s string) bool { return s == "" || strings.EqualFold(s, none) }

var boolean = kind[bool]{
	parse: func(s string) (bool, error) {
		switch strings.ToLower(s) {
		case "1", "yes", "true", "on":
			return true, nil
		case "0", "no", "false", "off":
			return false, nil
		}
		return false, fmt.Errorf("%q is none of yes, no, true, false, on, off, 1, 0", s)
	},
	format: strconv.FormatBool,
}

// number is the kind of a decimal whole number from low to high.
func number[T ~int | ~int64 | ~uint16 | ~uint32](low, high int64) kind[T] {
	return kind[T]{
		parse: func(s string) (T, error) {
			n, err := parseNumber(s, low, high)
			return T(n), err
		},
		format: func(v T) string { return strconv.FormatInt(int64(v), 10) },
	}
}

func parseNumber(s string, low, high int64) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case errors.Is(err, strconv.ErrRange) || err == nil && (n < low || n > high):
		return 0, fmt.Errorf("%s is out of range %d..%d", s, low, high)
	case err != nil:
		return 0, fmt.Errorf("%q is not a whole number (%d..%d)", s, low, high)
	}
	return n, nil
}

// orAuto is a number for which 0, also written auto, means: find it out.
func orAuto(k kind[int]) kind[int] {
	return kind[int]{
		parse: func(s string) (int, error) {
			if strings.EqualFold(s, auto) {
				return 0, nil
			}
			return k.parse(s)
		},
		format: func(v int) string {
			if v == 0 {
				return auto
			}
			return k.format(v)
		},
	}
}

// nodeID is the kind of an identifier: decimal or, with 0x, hexadecimal.
var nodeID = kind[uint64]{
	parse: func(s string) (uint64, error) {
		if strings.EqualFold(s, auto) {
			return 0, nil
		}
		digits, base := s, 10
		if strings.HasPrefix(s, "0x") || strings.HasPrefix(s, "0X") {
			digits, base = s[2:], 16
		}
		n, err := strconv.ParseUint(digits, base, 64)
		if err != nil {
			return 0, fmt.Errorf("%q is not an identifier (a number of up to 64 bits, decimal or 0x…, or %s)", s, auto)
		}
		return n, nil
	},
	format: func(v uint64) string {
		if v == 0 {
			return auto
		}
		return strconv.FormatUint(v, 10)
	},
}

// seconds is the kind of a time in whole seconds, from low to high of them. A
// unit may follow: 90, 90s and 1m30s are the same.
func seconds(low, high int64) kind[time.Duration] {
	return kind[time.Duration]{
		parse: func(s string) (time.Duration, error) {
			if n, err := strconv.ParseInt(s, 10, 64); err == nil {
				if n < low || n > high {
					return 0, fmt.Errorf("%s is out of range %d..%d", s, low, high)
				}
				return time.Duration(n) * time.Second, nil
			}
			d, err := time.ParseDuration(s)
			switch {
			case err != nil || d%time.Second != 0:
				return 0, fmt.Errorf("%q is not a number of whole seconds (%d..%d)", s, low, high)
			case d < time.Duration(low)*time.Second || d > time.Duration(high)*time.Second:
				return 0, fmt.Errorf("%s is out of range %d..%d", s, low, high)
			}
			return d, nil
		},
		format: func(d time.Duration) string {
			return strconv.FormatInt(int64(d/time.Second), 10)
		},
	}
}

// parseAddr reads an address of either family, unmapped. A zone is refused:
// it would tie the address to one device.
func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%q is not an IPv4 or IPv6 address", s)
	}
	if a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("%q has a zone, which is not allowed here", s)
	}
	return a.Unmap(), nil
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// parseUnicast reads an address that a host can have.
func parseUnicast(s string) (netip.Addr, error) {
	a, err := parseAddr(s)
	switch {
	case err != nil:
		return a, err
	case a.IsUnspecified() || a.IsMulticast() || a == broadcast:
		return netip.Addr{}, fmt.Errorf("%s is not a unicast address", s)
	}
	return a, nil
}

// bindAddr is the kind of an address to receive on: unicast or the wildcard.
var bindAddr = kind[netip.Addr]{
	parse: func(s string) (netip.Addr, error) {
		a, err := parseAddr(s)
		if err == nil && (a.IsMulticast() || a == broadcast) {
			return netip.Addr{}, fmt.Errorf("%s is neither a unicast address nor the wildcard", s)
		}
		return a, err
	},
	format: netip.Addr.String,
}

// optionalAddr is the kind of a unicast address that need not be given.
var optionalAddr = kind[netip.Addr]{
	parse: func(s string) (netip.Addr, error) {
		if isNone(s) {
			return netip.Addr{}, nil
		}
		return parseUnicast(s)
	},
	format: func(a netip.Addr) string {
		if !a.IsValid() {
			return none
		}
		return a.String()
	},
}

// serviceAddrs reads svcnode_ip: vxrd takes a list, vxsnd one address.
func serviceAddrs(c *Config, p Program, s string) error {
	fs := fields(s)
	switch {
	case len(fs) == 0:
		return errors.New("an address is missing")
	case len(fs) > 1 && p == Vxsnd:
		return fmt.Errorf("%q is a list, but vxsnd takes one address (only vxrd takes a list)", s)
	}
	as := make([]netip.Addr, 0, len(fs))
	for _, f := range fs {
		a, err := bindAddr.parse(f)
		if err != nil {
			return err
		}
		as = append(as, a)
	}
	c.SvcnodeIP, c.SvcnodeIPs = as[0], as
	return nil
}

// peers is the kind of a list of hosts with optional ports. A host that is
// named twice is kept once.
var peers = kind[[]Peer]{
	parse: func(s string) ([]Peer, error) {
		if isNone(s) {
			return nil, nil
		}
		var ps []Peer
		seen := make(map[Peer]bool)
		for _, f := range fields(s) {
			p, err := parsePeer(f)
			if err != nil {
				return nil, err
			}
			if !seen[p] {
				seen[p] = true
				ps = append(ps, p)
			}
		}
		return ps, nil
	},
	format: func(ps []Peer) string { return list(ps, Peer.String) },
}

func list[T any](vs []T, format func(T) string) string {
	if len(vs) == 0 {
		return none
	}
	ss := make([]string, len(vs))
	for i, v := range vs {
		ss[i] = format(v)
	}
	return strings.Join(ss, " ")
}

// parsePeer reads HOST, HOST:PORT, an address, ADDRESS:PORT, or [IPV6]:PORT.
func parsePeer(s string) (Peer, error) {
	host, port := s, ""
	switch {
	case strings.HasPrefix(s, "["):
		inner, rest, ok := strings.Cut(s[1:], "]")
		if !ok || rest != "" && !strings.HasPrefix(rest, ":") || !strings.Contains(inner, ":") {
			return Peer{}, fmt.Errorf("%q is not [IPV6-ADDRESS]:PORT", s)
		}
		host, port = inner, rest
	case strings.Count(s, ":") == 1:
		i := strings.IndexByte(s, ':')
		host, port = s[:i], s[i:]
	}
	var p Peer
	if port != "" {
		n, err := parseNumber(port[1:], 1, 65535)
		if err != nil {
			return Peer{}, fmt.Errorf("%q: port %w", s, err)
		}
		p.Port = uint16(n)
	}
	if strings.Contains(host, ":") || looksNumeric(host) {
		a, err := parseUnicast(host)
		p.Addr = a
		return p, err
	}
	if !validHost(host) {
		return Peer{}, fmt.Errorf("%q is neither an address nor a host name", s)
	}
	p.Host = strings.ToLower(host)
	return p, nil
}

// looksNumeric tells whether s can only be meant as an IPv4 address: the last
// label of a host name is never a number (RFC 1123, section 2.1), so
// 10.0.0.256 is a mistake and not a name.
func looksNumeric(s string) bool {
	s = strings.TrimSuffix(s, ".")
	last := s[strings.LastIndexByte(s, '.')+1:]
	if last == "" {
		return false
	}
	for _, r := range last {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}

func validHost(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > maxHost {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return false
			}
		}
	}
	return true
}

// memberships is the kind of vtep_membership. An address begins the next
// member, so that continuation lines and flags that add up are read as they
// look.
var memberships = kind[[]Membership]{
	parse: func(s string) ([]Membership, error) {
		if isNone(s) {
			return nil, nil
		}
		var ms []Membership
		for _, f := range fields(s) {
			if strings.ContainsAny(f, ".:") {
				a, err := parseUnicast(f)
				if err != nil {
					return nil, err
				}
				if a.IsLoopback() {
					return nil, fmt.Errorf("%s is a loopback address, which no VTEP has", f)
				}
				if n := len(ms); n > 0 && len(ms[n-1].VNIs) == 0 {
					return nil, fmt.Errorf("%s has no VNI (ADDRESS VNI [VNI …])", ms[n-1].Addr)
				}
				ms = append(ms, Membership{Addr: a})
				continue
			}
			if len(ms) == 0 {
				return nil, fmt.Errorf("%q is not an IPv4 or IPv6 address (ADDRESS VNI [VNI …])", f)
			}
			v, err := vxlan.ParseVNI(f)
			if err != nil {
				return nil, err
			}
			m := &ms[len(ms)-1]
			m.VNIs = append(m.VNIs, v)
		}
		if n := len(ms); n > 0 && len(ms[n-1].VNIs) == 0 {
			return nil, fmt.Errorf("%s has no VNI (ADDRESS VNI [VNI …])", ms[n-1].Addr)
		}
		return ms, nil
	},
	format: func(ms []Membership) string {
		return list(ms, func(m Membership) string {
			return m.Addr.String() + " " + list(m.VNIs, vxlan.VNI.String)
		})
	},
}

// checksum takes the booleans of its older name besides its own words.
var checksum = kind[Checksum]{
	parse: func(s string) (Checksum, error) {
		if b, err := boolean.parse(s); err == nil {
			if b {
				return ChecksumCompute, nil
			}
			return ChecksumZero, nil
		}
		return enum[Checksum](checksumNames).parse(s)
	},
	format: Checksum.String,
}

// logDest takes a keyword in any case or the name of a file. A bare word that
// is nearly a keyword is a slip, and not a file to be made.
var logDest = kind[LogDest]{
	parse: func(s string) (LogDest, error) {
		switch word := strings.ToLower(s); {
		case s == "":
			return LogDest{}, errors.New("a value is missing (stdout, syslog or a file name)")
		case word == "syslog":
			return LogDest{Kind: DestSyslog}, nil
		case word == "stdout":
			return LogDest{Kind: DestStdout}, nil
		case !strings.ContainsAny(s, "./") && (distance(word, "syslog") <= 2 || distance(word, "stdout") <= 2 || word == "stderr"):
			return LogDest{}, fmt.Errorf("%q is none of stdout, syslog or a file name (a file of that name is ./%s)", s, s)
		}
		return LogDest{Kind: DestFile, Path: s}, nil
	},
	format: LogDest.String,
}

// path is the kind of a file name of at most limit bytes.
func path(limit int) kind[string] {
	return kind[string]{
		parse: func(s string) (string, error) {
			switch {
			case s == "":
				return "", errors.New("a file name is missing")
			case len(s) > limit:
				return "", fmt.Errorf("%q is longer than %d bytes", s, limit)
			}
			return s, nil
		},
		format: func(s string) string { return s },
	}
}

// device is the kind of a network device's name, or none.
var device = kind[string]{
	parse: func(s string) (string, error) {
		switch {
		case isNone(s):
			return "", nil
		case len(s) > maxDevice || s == "." || s == ".." || strings.ContainsAny(s, "/: \t,"):
			return "", fmt.Errorf("%q is not the name of a network device (up to %d bytes, no blank, slash or colon)", s, maxDevice)
		}
		return s, nil
	},
	format: func(s string) string {
		if s == "" {
			return none
		}
		return s
	},
}
