// SPDX-License-Identifier: Apache-2.0

package registrar

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"vxsnd/internal/config"
	"vxsnd/internal/headend"
	"vxsnd/internal/sock"
	"vxsnd/internal/startup"
	"vxsnd/internal/underlay"
)

// unprivilegedPort is the first port that needs no capability
// (net.ipv4.ip_unprivileged_port_start, ip(7)).
const unprivilegedPort = 1024

// errProgram says that the error is about changing the flood entries of devices.
var errProgram = errors.New("head-end replication")

// Listen opens all sockets. Errors match startup.ErrBind or
// startup.ErrPrivilege where they are of that kind, and carry a hint. Where it
// fails, Close releases what was opened.
func (r *Registrar) Listen(ctx context.Context) error {
	devices, err := underlay.OpenDevices(r.log)
	if err != nil {
		return r.explain(err)
	}
	r.devices = devices
	addresses, err := underlay.OpenAddresses(r.cfg.VRF, r.log)
	if err != nil {
		return r.explainVRF(err)
	}
	r.addresses = addresses

	// The socket comes before the journal: it is shared with nobody, so a second
	// registrar ends here.
	if r.conn, err = r.listen(ctx); err != nil {
		return r.explain(err)
	}
	if err := r.warnOfSource(); err != nil {
		return r.explain(err)
	}
	fdb, err := underlay.OpenFDB()
	if err != nil {
		return r.explain(err)
	}
	r.fdb, r.closeFDB = fdb, fdb.Close
	if !r.cfg.HeadRep {
		r.removeLeft(fdb)
	} else if err := r.openLists(fdb); err != nil {
		return err
	}
	r.recall()
	return nil
}

// listen opens the registration socket.
func (r *Registrar) listen(ctx context.Context) (conn, error) {
	ctx = context.WithoutCancel(ctx) // a VRF may be made anew at any time
	bind := func() (conn, error) {
		c, err := sock.ListenControl(ctx, netip.AddrPortFrom(r.cfg.SrcIP, r.cfg.VxfldPort), r.cfg.VRF)
		if err != nil {
			return nil, err
		}
		return c, nil
	}
	if r.cfg.VRF == "" {
		return bind()
	}
	return listenVRF(bind)
}

// openLists opens the flood lists.
func (r *Registrar) openLists(fdb *underlay.FDB) error {
	if err := mayProgram(fdb); err != nil {
		return r.explain(err)
	}
	o, err := listOptions(&r.cfg, fdb)
	if err != nil {
		return r.explain(err)
	}
	o.Log = r.log
	lists, err := headend.Open(o)
	if err != nil {
		return err // it knows best what to do about it
	}
	r.lists, r.adopted = lists, lists.Adopted()
	return nil
}

// listOptions says where the flood lists of this machine are.
func listOptions(c *config.Config, fdb *underlay.FDB) (headend.Options, error) {
	ns, err := underlay.NamespaceID()
	if err != nil {
		return headend.Options{}, err
	}
	boot, err := underlay.BootID()
	if err != nil {
		return headend.Options{}, err
	}
	return headend.Options{
		StateFile: c.StateFile, Namespace: ns, BootID: boot, Kernel: fdb, Settings: listSettings(c),
	}, nil
}

// mayProgram returns why flood entries cannot be changed, if so. It tries on a
// device that there is not: the kernel looks at the privilege first.
func mayProgram(fdb *underlay.FDB) error {
	probe := underlay.FloodChange{FloodEntry: underlay.FloodEntry{
		Index: math.MaxInt32, Dst: netip.AddrFrom4([4]byte{192, 0, 2, 1}), // TEST-NET-1, RFC 5737
	}}
	for _, err := range fdb.Apply([]underlay.FloodChange{probe}) {
		if sock.IsPrivilege(err) {
			return fmt.Errorf("%w: %w", errProgram, err)
		}
	}
	return nil
}

// warnOfSource warns of a source address that nothing can be sent from yet.
func (r *Registrar) warnOfSource() error {
	u, ok := r.addresses.(*underlay.Underlay)
	if !ok || r.cfg.SrcIP.IsUnspecified() {
		return nil
	}
	own, err := u.Addresses()
	if err != nil {
		return err
	}
	for _, a := range own {
		if a == r.cfg.SrcIP {
			return nil
		}
	}
	r.log.WithField("local", r.cfg.SrcIP).Warn("src_ip is not an address of this machine: nothing is registered until it is")
	return nil
}

// Close releases all sockets, after Run has returned or Listen has failed. Flood
// entries stay, and are this registrar's again after the next start.
func (r *Registrar) Close() error {
	var errs []error
	if r.conn != nil {
		if err := r.conn.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if r.lists != nil {
		errs = append(errs, r.lists.Close())
	}
	if r.memory != nil {
		errs = append(errs, r.memory.file.Close())
	}
	if r.closeFDB != nil {
		r.closeFDB()
	}
	if r.addresses != nil {
		r.addresses.Close()
	}
	if r.devices != nil {
		r.devices.Close()
	}
	return errors.Join(errs...)
}

// Cleanup removes the flood entries that a registrar with this configuration
// left when it was killed, and returns how many those were. It fails while the
// registrar runs. Errors match startup.ErrPrivilege where they are of that kind.
func Cleanup(cfg config.Config) (removed int, err error) {
	r := &Registrar{cfg: cfg}
	fdb, err := underlay.OpenFDB()
	if err != nil {
		return 0, r.explain(err)
	}
	defer fdb.Close()
	if err := mayProgram(fdb); err != nil {
		return 0, r.explain(err)
	}
	o, err := listOptions(&cfg, fdb)
	if err != nil {
		return 0, r.explain(err)
	}
	return headend.Cleanup(o)
}

// explain sorts an error of opening something.
func (r *Registrar) explain(err error) error {
	switch {
	case sock.IsInUse(err):
		return startup.New(err, startup.ErrBind, fmt.Sprintf(
			"another vxrd, or a vxsnd, of this namespace holds UDP port %d: see 'ss -ulnp'", r.cfg.VxfldPort))
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
		return startup.New(err, startup.ErrBind, "the process may have too few open files: raise 'ulimit -n', or LimitNOFILE in a unit")
	case errors.Is(err, errProgram):
		return startup.New(err, startup.ErrPrivilege,
			"programming flood entries needs CAP_NET_ADMIN: start as root, or with AmbientCapabilities=CAP_NET_ADMIN in a unit; head_rep = no needs none")
	case errors.Is(err, unix.EACCES) && r.cfg.VxfldPort < unprivilegedPort:
		return startup.New(err, startup.ErrPrivilege, "ports below 1024 need CAP_NET_BIND_SERVICE: choose another one (vxfld_port), or start as root")
	case sock.IsPrivilege(err):
		return startup.New(err, startup.ErrPrivilege, "start as root")
	}
	return startup.New(err, startup.ErrBind, "")
}

// explainVRF sorts an error of opening the underlay.
func (r *Registrar) explainVRF(err error) error {
	var e *startup.Error
	if err = r.explain(err); errors.As(err, &e) && e.Hint == "" && r.cfg.VRF != "" {
		e.Hint = "'ip link show type vrf' lists the VRF devices of this namespace: name one of them (vrf), or make it"
	}
	return err
}
