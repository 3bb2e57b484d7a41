// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"fmt"
	"net/netip"
	"sync/atomic"
)

// A Switch is an Ethernet segment: a namespace of its own with a bridge that
// machines are plugged into. It is the usual underlay of a lab. It is safe for
// concurrent use.
type Switch struct {
	// Namespace is where the bridge is: link "br", ports "p1", "p2" and so on.
	*Namespace

	mtu   int
	ports atomic.Int32
}

// Switch makes an Ethernet segment whose links have the given MTU; 0 is 1500.
func (l *Lab) Switch(name string, mtu int) (*Switch, error) {
	n, err := l.Namespace(name)
	if err != nil {
		return nil, err
	}
	return &Switch{Namespace: n, mtu: mtu}, n.AddBridge("br", mtu)
}

// Attach plugs a machine into the segment: it gets the link dev with the given
// addresses. It returns the name of the switch's port.
func (s *Switch) Attach(n *Namespace, dev string, addrs ...netip.Prefix) (port string, err error) {
	port = fmt.Sprintf("p%d", s.ports.Add(1))
	if err := Veth(s.Namespace, port, n, dev, s.mtu); err != nil {
		return "", err
	}
	if err := s.SetMaster(port, "br"); err != nil {
		return "", err
	}
	for _, a := range addrs {
		if err := n.AddAddr(dev, a); err != nil {
			return "", err
		}
	}
	return port, nil
}
