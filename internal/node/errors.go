// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"vxsnd/internal/flood/tc"
	"vxsnd/internal/sock"
	"vxsnd/internal/startup"
)

// What kept a node from opening its sockets. Errors of Listen match one of
// them, or neither.
var (
	// ErrBind says that an address or port is not to be had.
	ErrBind = startup.ErrBind
	// ErrPrivilege says that a capability is missing.
	ErrPrivilege = startup.ErrPrivilege
)

// errInstall says that the error is about putting svcnode_ip on an interface.
var errInstall = errors.New("install_svcnode_ip")

// unprivilegedPort is the first port that needs no capability
// (net.ipv4.ip_unprivileged_port_start, ip(7)).
const unprivilegedPort = 1024

// Hint returns what an operator may do about an error of Listen, or "".
func Hint(err error) string { return startup.Hint(err) }

// explain sorts an error of opening something.
func (n *Node) explain(err error) error {
	switch {
	case errors.Is(err, tc.ErrNotPossible):
		return explainKernel(err)
	case sock.IsInUse(err):
		return startup.New(err, ErrBind, fmt.Sprintf(
			"another vxsnd or a kernel VXLAN device of this namespace holds the port: see 'ss -ulnp' and 'ip -d link show type vxlan', or choose other ports (vxfld_port %d, vxlan_listen_port %d)",
			n.cfg.VxfldPort, n.cfg.VXLANListenPort))
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return startup.New(err, ErrBind, "the process may have too few open files: raise 'ulimit -n', or LimitNOFILE in a unit")
	case errors.Is(err, unix.EACCES) && min(n.cfg.VxfldPort, n.cfg.VXLANListenPort) < unprivilegedPort:
		return startup.New(err, ErrPrivilege,
			"ports below 1024 need CAP_NET_BIND_SERVICE: choose others, or start as root")
	case errors.Is(err, errInstall) && (errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES)):
		return startup.New(err, ErrPrivilege,
			"installing svcnode_ip needs CAP_NET_ADMIN: start as root, or with the drop-in anycast.conf of the unit; or put the address on the loopback interface by other means and leave install_svcnode_ip out")
	case sock.IsPrivilege(err):
		return startup.New(err, ErrPrivilege,
			"flooding needs CAP_NET_RAW: start as root, or with AmbientCapabilities=CAP_NET_RAW in a unit; -R serves registrations alone without it")
	}
	return startup.New(err, ErrBind, "")
}

// explainKernel sorts an error of engine = tc.
func explainKernel(err error) error {
	const other = "engine = auto floods by raw where the kernel cannot"
	switch {
	case errors.Is(err, unix.EPERM):
		return startup.New(err, ErrPrivilege, "engine = tc needs CAP_BPF and CAP_NET_ADMIN: start as root, or with the drop-in tc.conf of the unit; "+other)
	case errors.Is(err, tc.ErrChecksum):
		return startup.New(err, startup.ErrConfig, "leave udp_checksum = compute out, or engine = tc: "+other)
	}
	return startup.New(err, startup.ErrConfig, other)
}

// explainVRF sorts an error of opening the underlay.
func (n *Node) explainVRF(err error) error {
	var e *startup.Error
	if err = n.explain(err); errors.As(err, &e) && e.Hint == "" && n.cfg.VRF != "" {
		e.Hint = "'ip link show type vrf' lists the VRF devices of this namespace: name one of them (vrf), or make it"
	}
	return err
}

// explainReload sorts an error of opening something while the node runs: it has
// given up its privileges by then.
func (n *Node) explainReload(err error) error {
	var e *startup.Error
	switch err = n.explain(err); {
	case !errors.As(err, &e) || e.Kind != ErrPrivilege:
	case errors.Is(err, tc.ErrNotPossible):
		e.Hint = "restart it: that takes CAP_BPF and CAP_NET_ADMIN, which a running node has given up unless it flooded in the kernel when it was started"
	case errors.Is(err, errInstall):
		e.Hint = "restart it: that takes CAP_NET_ADMIN, which a running node has given up unless it was started with install_svcnode_ip"
	default:
		e.Hint = "restart it: that takes CAP_NET_RAW, which a running node has given up"
	}
	return err
}
