// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"math/bits"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A proc is where the proc file system is.
type proc string

// sysctl reads a number. The key has slashes, since a device may have a dot in
// its name. The kernel shows the namespace of the thread that opens the file.
func (p proc) sysctl(key string) (int, error) {
	b, err := os.ReadFile(filepath.Join(string(p), "sys", key))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// setting writes a key and its value as sysctl(8) does.
func setting(key string, value int) string {
	return fmt.Sprintf("%s = %d", dotted(key), value)
}

// dotted returns a key as sysctl(8) takes it: a dot in a device's name becomes
// a slash there.
func dotted(key string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(key)
}

// cannotRead turns a finding into one that is not known for want of a key.
func (f Finding) cannotRead(key string, err error) Finding {
	f.OK, f.Unknown, f.Fix = false, true, ""
	f.Value = dotted(key) + " cannot be read"
	f.Text = err.Error()
	if errors.Is(err, fs.ErrNotExist) {
		f.Text = "this network namespace does not show it: look at it in the one that the machine started with"
	}
	return f
}

// receiveBuffer tries what a data socket will get, since that depends on more
// than rmem_max: SO_RCVBUFFORCE passes it, but asks for CAP_NET_ADMIN in the
// user namespace that the machine started with.
func (p proc) receiveBuffer(want int) Finding {
	const key = "net/core/rmem_max"
	f := Finding{Name: "rmem_max", Explanation: "Packets that arrive while the daemon is busy wait in the receive buffer of its socket; " +
		"the kernel drops what does not fit. A process without CAP_NET_ADMIN gets at most net.core.rmem_max bytes, however " +
		"many it asks for. A line in /etc/sysctl.d keeps the setting over a restart of the machine."}
	limit, hidden := p.sysctl(key)
	if f.Value = setting(key, limit); hidden != nil {
		f.Value = dotted(key) + " is not shown here"
	}
	if want == 0 {
		f.OK, f.Text = true, "no data is received, so that no large buffer is asked for"
		return f
	}
	got, forced, err := tryReceiveBuffer(want)
	switch {
	case err != nil:
		f.Unknown, f.Text = true, fmt.Sprintf("a socket to try it with: %v", err)
	case got < want:
		f.Text = fmt.Sprintf("receive buffers get %d bytes of the %d asked for, so that bursts of packets are dropped", got, want)
		f.Fix = fmt.Sprintf("sysctl -w net.core.rmem_max=%d", want)
	case forced && hidden == nil && limit < want:
		f.OK, f.Text = true, fmt.Sprintf("below the %d bytes asked for, but no limit to this process, which has CAP_NET_ADMIN", want)
	default:
		f.OK, f.Text = true, fmt.Sprintf("receive buffers get the %d bytes asked for", want)
	}
	return f
}

// tryReceiveBuffer asks for a receive buffer as a daemon does, and returns its
// size and whether privilege got it.
func tryReceiveBuffer(want int) (got int, forced bool, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, false, err
	}
	defer unix.Close(fd)
	forced = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, want) == nil
	if !forced {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, want); err != nil {
			return 0, false, err
		}
	}
	got, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF)
	return got / 2, forced, err // the kernel reports double (socket(7))
}

// spareNeighbours is room in the neighbour table for machines that the daemon
// does not know of: gateways, peers, others on the link.
const spareNeighbours = 128

// neighbours checks the neighbour tables, which all network namespaces share:
// only the machine's first one shows their size.
func (p proc) neighbours(want4, want6 int) Finding {
	f := Finding{Name: "gc_thresh3", OK: true, Explanation: "The neighbour table has an entry for each machine on the own links that packets are " +
		"sent to. With gc_thresh3 entries it is full, and packets to any further machine are dropped; above gc_thresh2, entries older " +
		"than five seconds are resolved again and again. Machines behind a router need no entry. Only the members that are " +
		"configured are counted here: allow for those that register."}
	var values, full []string
	for _, t := range []struct {
		family string
		want   int
	}{{"ipv4", want4}, {"ipv6", want6}} {
		key := "net/" + t.family + "/neigh/default/gc_thresh3"
		limit, err := p.sysctl(key)
		if err != nil {
			if t.want == 0 {
				continue
			}
			return f.cannotRead(key, err)
		}
		values = append(values, setting(key, limit))
		if t.want > 0 && limit < t.want+spareNeighbours {
			full = append(full, fmt.Sprintf("%d on %s", t.want, map[string]string{"ipv4": "IPv4", "ipv6": "IPv6"}[t.family]))
			size := 1 << bits.Len(uint(2*(t.want+spareNeighbours)-1))
			def := "net." + t.family + ".neigh.default."
			f.Fix += fmt.Sprintf(" %sgc_thresh3=%d %sgc_thresh2=%d", def, size, def, size/2)
		}
	}
	f.Value = strings.Join(values, ", ")
	if f.Text = "room for the members that are configured"; len(full) > 0 {
		f.OK, f.Fix = false, "sysctl -w"+f.Fix
		f.Text = fmt.Sprintf("too few for the members that are configured (%s) and %d others, if they are on one link: "+
			"packets to some are dropped", strings.Join(full, ", "), spareNeighbours)
	} else if f.Value == "" {
		f.Value = "net.ipv4.neigh.default.gc_thresh3 is not shown here"
		f.Text = "no members are configured"
	}
	return f
}

// reversePath looks for interfaces that drop what comes from elsewhere than the
// own route to its source.
func (p proc) reversePath(vrf string) Finding {
	const all = "net/ipv4/conf/all/rp_filter"
	f := Finding{Name: "rp_filter", Explanation: "With rp_filter 1 the kernel drops an IPv4 packet unless its source is reached by the interface that it " +
		"came in by. Where machines are reached by one interface and their packets come in by another, they are dropped without a " +
		"trace. 2 asks for any route to the source, 0 for none; the larger of 'all' and the interface's own value counts, so that " +
		"setting 'all' to 2 is enough. Routers, and the machines that copies go to, may filter alike: a copy carries the source " +
		"address of another machine than the one that sends it."}
	general, err := p.sysctl(all)
	if err != nil {
		return f.cannotRead(all, err)
	}
	names, err := interfaces(vrf)
	if err != nil {
		f.Unknown, f.Value, f.Text = true, setting(all, general), fmt.Sprintf("interfaces cannot be listed: %v", err)
		return f
	}
	var strict []string
	for _, name := range names {
		own, err := p.sysctl("net/ipv4/conf/" + name + "/rp_filter")
		// An interface may go while its value is read. The larger of the two
		// counts (Documentation/networking/ip-sysctl.rst).
		if err == nil && max(own, general) == 1 {
			strict = append(strict, name)
		}
	}
	f.Value = setting(all, general)
	if len(strict) > 0 {
		f.Value += "; strict on " + some(strict)
	}
	switch {
	case len(strict) == 0:
		f.OK, f.Text = true, "no interface is strict about the sources of packets"
	case len(names) == 1:
		f.OK, f.Text = true, "harmless with one interface, by which every source is reached"
	default:
		f.Text = "packets of machines that are reached by another interface than they come in by are dropped"
		f.Fix = "sysctl -w net.ipv4.conf.all.rp_filter=2"
	}
	return f
}

// some joins names, but not more than fit a line.
func some(names []string) string {
	const most = 4
	if len(names) > most {
		return fmt.Sprintf("%s and %d others", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// interfaces returns the interfaces that are up and that packets for this
// machine come in by: those of the VRF device that is named, or those in no
// VRF, bridge or bond.
func interfaces(vrf string) ([]string, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, err
	}
	master := 0
	for _, l := range links {
		if vrf != "" && l.Attrs().Name == vrf {
			master = l.Attrs().Index
		}
	}
	if vrf != "" && master == 0 {
		return nil, fmt.Errorf("there is no VRF device %s", vrf)
	}
	var names []string
	for _, l := range links {
		a := l.Attrs()
		up, loopback := a.RawFlags&unix.IFF_UP != 0, a.RawFlags&unix.IFF_LOOPBACK != 0
		if up && !loopback && a.MasterIndex == master && l.Type() != "vrf" {
			names = append(names, a.Name)
		}
	}
	return names, nil
}

// forwarding checks what becomes of packets for an anycast address that is no
// longer here.
func (p proc) forwarding(anycast netip.Addr, vrf string) Finding {
	key, name := "net/ipv4/ip_forward", "net.ipv4.ip_forward"
	if anycast.Is6() {
		key, name = "net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"
	}
	f := Finding{Name: "ip_forward", Explanation: "Packets for a shared address go on coming for a while after it has been taken off this machine, until all " +
		"routers know. A machine that forwards sends each on by its default route, to a router that sends it back: one packet " +
		"becomes dozens. One that does not forward drops them. Where it has to, for containers say, the " +
		"blackhole route drops them too, which takes effect only while the address is not on this machine. Keep a routing " +
		"daemon from announcing that route."}
	on, err := p.sysctl(key)
	switch {
	case err != nil && !anycast.IsValid():
		f.OK, f.Value, f.Text = true, name+" is not shown here", "no shared address is configured"
		return f
	case err != nil:
		return f.cannotRead(key, err)
	}
	f.Value = setting(key, on)
	switch {
	case on == 0:
		f.OK, f.Text = true, "this machine forwards nothing"
	case !anycast.IsValid():
		f.OK, f.Text = true, "harmless, since no shared address is configured"
	default:
		if on := linkOf(anycast); on != "" {
			f.OK, f.Text = true, fmt.Sprintf("harmless, since %s is an address of the link of %s, and no shared one", anycast, on)
			return f
		}
		if vrf != "" {
			vrf = "vrf " + vrf + " "
		}
		f.Text = fmt.Sprintf("while %s is not on this machine, packets for it are sent back to the router that they come from, and circle until their TTL ends; "+
			"where the machine has to forward, 'ip route add %sblackhole %[1]s metric 4294967295' ends that too", anycast, vrf)
		f.Fix = "sysctl -w " + name + "=0"
	}
	return f
}

// linkOf returns the interface that has addr in the prefix of its link, "" where
// none has. An address that is shared is on a loopback or VRF device, is alone in
// its prefix, or is not here yet.
func linkOf(addr netip.Addr) string {
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return ""
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); !ok || ip.Unmap() != addr {
			continue
		}
		l, err := netlink.LinkByIndex(a.LinkIndex)
		if ones, bits := a.Mask.Size(); err != nil || ones == bits || l.Attrs().RawFlags&unix.IFF_LOOPBACK != 0 || l.Type() == "vrf" {
			continue
		}
		return l.Attrs().Name
	}
	return ""
}
