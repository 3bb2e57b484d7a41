// SPDX-License-Identifier: Apache-2.0

// Package sock opens and drives the Linux sockets of vxsnd: socket options as
// data, batched reads and writes, raw sockets that send with another host's
// source address, and the control socket that answers from the address it was
// asked on. It knows nothing of VXLAN or of members.
package sock

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// An Option is one socket option, set before the socket is bound. A missing
// mandatory option is an error that names it; of another one the error is
// dropped, and the caller looks at the effect where that matters.
type Option struct {
	Name       string // as in the man page, for errors
	Level, Opt int
	Value      int    // the value, unless Text is set
	Text       string // the value of a string option (SO_BINDTODEVICE)
	Mandatory  bool
}

func (o Option) set(fd int) error {
	var err error
	if o.Text != "" {
		err = unix.SetsockoptString(fd, o.Level, o.Opt, o.Text)
	} else {
		err = unix.SetsockoptInt(fd, o.Level, o.Opt, o.Value)
	}
	if err != nil && o.Mandatory {
		return fmt.Errorf("set %s: %w", o.Name, err)
	}
	return nil
}

func setAll(fd int, opts []Option) error {
	for _, o := range opts {
		if err := o.set(fd); err != nil {
			return err
		}
	}
	return nil
}

// vrfOption binds a socket to a VRF device, so that its addresses and routes
// are those of the VRF (Documentation/networking/vrf.rst). No capability is
// needed since Linux 5.7.
func vrfOption(vrf string) []Option {
	if vrf == "" {
		return nil
	}
	return []Option{{Name: "SO_BINDTODEVICE " + vrf, Level: unix.SOL_SOCKET, Opt: unix.SO_BINDTODEVICE, Text: vrf, Mandatory: true}}
}

// bufferOptions ask for a buffer of n bytes: past the limit of
// net.core.?mem_max where CAP_NET_ADMIN is there, else up to it. Neither
// fails, so the caller compares what it got (socket(7)).
func bufferOptions(plain, force, n int) []Option {
	return []Option{
		{Name: "buffer", Level: unix.SOL_SOCKET, Opt: plain, Value: n},
		{Name: "buffer (forced)", Level: unix.SOL_SOCKET, Opt: force, Value: n},
	}
}

// buffer returns the size of a socket buffer as it was asked for: the kernel
// reports double of it (socket(7), SO_RCVBUF).
func buffer(fd, opt int) int {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, opt)
	if err != nil {
		return 0
	}
	return n / 2
}

// IsPrivilege tells whether err is the kernel's answer to a missing
// capability while a socket was opened.
func IsPrivilege(err error) bool {
	return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)
}

// IsInUse tells whether err says that somebody else holds the address.
func IsInUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }

func family(a netip.Addr) int {
	if a.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if ap.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(ap.Port()), Addr: ap.Addr().As16()}
}
