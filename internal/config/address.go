// SPDX-License-Identifier: Apache-2.0

package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"vxsnd/internal/vxlan"
)

// maxHost is the longest host name (RFC 1035, section 2.3.4).
const maxHost = 253

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
		return fmt.Errorf("%q is a list, but vxsnd takes one address (peers go into svcnode_peers)", s)
	}
	as := make([]netip.Addr, 0, len(fs))
	for _, f := range fs {
		a, err := bindAddr.parse(f)
		switch {
		case err != nil:
			return err
		case a.IsUnspecified() && len(fs) > 1:
			return fmt.Errorf("%s is the wildcard, which stands alone", a)
		case !slices.Contains(as, a):
			as = append(as, a)
		}
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

// prefixes is the kind of a list of prefixes; an address is the prefix of that
// address alone. Each is kept once.
var prefixes = kind[[]netip.Prefix]{
	parse: func(s string) ([]netip.Prefix, error) {
		if isNone(s) {
			return nil, nil
		}
		var ps []netip.Prefix
		for _, f := range fields(s) {
			p, err := parsePrefix(f)
			if err != nil {
				return nil, err
			}
			if !slices.Contains(ps, p) {
				ps = append(ps, p)
			}
		}
		return ps, nil
	},
	format: func(ps []netip.Prefix) string { return list(ps, netip.Prefix.String) },
}

// parsePrefix reads ADDRESS/LENGTH or an address, unmapped. Bits behind the
// length must be zero: who sets them means something else than is written.
func parsePrefix(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		a, err := parseUnicast(s)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a prefix (ADDRESS/LENGTH) or an address", s)
	}
	// IPv4 in IPv6 has the 32 bits of IPv4 behind 96 others.
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if m := p.Masked(); p != m {
		return netip.Prefix{}, fmt.Errorf("%q has bits set behind its length, %s has not", s, m)
	}
	return p, nil
}
