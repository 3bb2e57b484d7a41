// SPDX-License-Identifier: Apache-2.0

package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A Namespace is one network namespace: a machine of the lab. It is safe for
// concurrent use; it lives until its lab is closed.
type Namespace struct {
	// Name is what errors call the namespace. It need not be unique.
	Name string

	lab *Lab
	fd  *os.File
	nl  *netlink.Handle

	mu sync.Mutex
	tx int // packet socket for sending; 0 until one is needed. mu guards it.
}

// currentNamespace opens the network namespace of the calling thread.
func currentNamespace() (*os.File, error) {
	return os.OpenFile("/proc/thread-self/ns/net", os.O_RDONLY, 0)
}

// Namespace makes a namespace whose loopback link is up. Name is for errors
// only: nothing outside this process can see it.
func (l *Lab) Namespace(name string) (*Namespace, error) {
	n := &Namespace{Name: name, lab: l}
	err := onThread(func() error {
		return os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_NEWNET))
	}, func() (err error) {
		if n.fd, err = currentNamespace(); err != nil {
			return err
		}
		if n.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
			return fmt.Errorf("open netlink: %w", err)
		}
		return nil
	})
	if err == nil {
		err = l.own(n.release)
	} else {
		err = errors.Join(err, n.release())
	}
	if err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	return n, n.settle()
}

// release closes what holds the namespace.
func (n *Namespace) release() error {
	if n.nl != nil {
		n.nl.Close()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.tx > 0 {
		unix.Close(n.tx)
		n.tx = 0
	}
	if n.fd == nil {
		return nil
	}
	return n.fd.Close()
}

// settle gives a new namespace the same settings on every host: the defaults of
// a new namespace follow those of the host it is made on (devconf_inherit_init_net).
func (n *Namespace) settle() error {
	for _, kv := range [][2]string{
		{"net.ipv4.conf.all.rp_filter", "0"},
		{"net.ipv4.conf.default.rp_filter", "0"},
		{"net.ipv4.ip_forward", "0"},
		{"net.ipv6.conf.default.disable_ipv6", "1"},
		{"net.ipv6.conf.default.accept_dad", "0"},
		{"net.ipv6.conf.default.accept_ra", "0"},
		{"net.ipv6.conf.default.router_solicitations", "0"},
		{"net.ipv6.conf.default.addr_gen_mode", "1"},
	} {
		err := n.SetSysctl(kv[0], kv[1])
		if errors.Is(err, os.ErrNotExist) && strings.HasPrefix(kv[0], "net.ipv6") {
			continue // a kernel without IPv6
		}
		if err != nil {
			return err
		}
	}
	return n.SetUp("lo")
}

// Do runs f on a thread that is in the namespace and returns its error.
// Sockets that f opens, files under /proc/sys/net that it opens and processes
// that it starts belong to the namespace. Goroutines that f starts do not run
// in it. A panic of f is raised again in the caller, and so is runtime.Goexit
// (the FailNow of a test): either way the thread has left the namespace before.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.fd.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		return nil
	}, f)
}

// onThread runs f in a goroutine with a thread of its own, after enter has moved
// the thread to another network namespace, and moves it back. A thread that cannot
// be moved back stays locked to the goroutine and therefore ends with it
// (runtime.LockOSThread), so no other goroutine ever runs in the wrong place.
func onThread(enter, f func() error) error {
	var (
		err    error
		raised any
		stack  []byte
		exited = true
		done   = make(chan struct{})
	)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		home, herr := currentNamespace()
		if herr == nil {
			defer home.Close()
			herr = enter()
		}
		if herr != nil {
			runtime.UnlockOSThread()
			exited, err = false, herr
			return
		}
		defer func() {
			if raised = recover(); raised != nil {
				stack = debug.Stack()
			}
			if rerr := unix.Setns(int(home.Fd()), unix.CLONE_NEWNET); rerr != nil {
				err = errors.Join(err, fmt.Errorf("leave namespace: %w", rerr))
			} else {
				runtime.UnlockOSThread()
			}
		}()
		err = f()
		exited = false
	}()
	<-done
	switch {
	case raised != nil:
		panic(fmt.Sprintf("netlab: %v\n\nraised in a namespace by:\n%s", raised, stack))
	case exited:
		runtime.Goexit()
	}
	return err
}

// sysctlPath returns the file of a sysctl key in dotted or slashed notation.
func sysctlPath(key string) string {
	if !strings.Contains(key, "/") {
		key = strings.ReplaceAll(key, ".", "/")
	}
	return filepath.Join("/proc/sys", key)
}

// SetSysctl writes a key below net, such as net.ipv4.ip_forward. A key that
// names a link with a dot in it is written with slashes.
func (n *Namespace) SetSysctl(key, value string) error {
	err := n.Do(func() error { return os.WriteFile(sysctlPath(key), []byte(value), 0) })
	if err != nil {
		return fmt.Errorf("%s: set %s: %w", n.Name, key, err)
	}
	return nil
}

// Sysctl reads a key below net, without its final newline.
func (n *Namespace) Sysctl(key string) (string, error) {
	var b []byte
	err := n.Do(func() (err error) {
		b, err = os.ReadFile(sysctlPath(key))
		return err
	})
	if err != nil {
		return "", fmt.Errorf("%s: read %s: %w", n.Name, key, err)
	}
	return strings.TrimSpace(string(b)), nil
}

// Inode identifies the namespace: the number that the kernel shows in
// /proc/PID/ns/net of a process in it.
func (n *Namespace) Inode() (uint64, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(n.fd.Fd()), &st); err != nil {
		return 0, fmt.Errorf("%s: stat namespace: %w", n.Name, err)
	}
	return st.Ino, nil
}

// ListenUDP opens a UDP socket in the namespace, bound to addr, which may have
// port 0. The caller closes it; any goroutine may use it.
func (n *Namespace) ListenUDP(addr netip.AddrPort) (*net.UDPConn, error) {
	var c *net.UDPConn
	err := n.Do(func() (err error) {
		c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", n.Name, err)
	}
	return c, nil
}
