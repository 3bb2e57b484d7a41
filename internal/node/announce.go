// SPDX-License-Identifier: Apache-2.0

package node

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vxsnd/internal/anycast"
	"vxsnd/internal/config"
	"vxsnd/internal/flood/tc"
	"vxsnd/internal/startup"
)

// installs tells whether a node with this configuration puts its service
// address on the loopback interface.
func installs(c *config.Config) bool { return c.InstallSvcnodeIP && !c.SvcnodeIP.IsUnspecified() }

func (n *Node) newAddress(c *config.Config) *anycast.Address {
	return anycast.New(anycast.Options{
		Addr: c.SvcnodeIP, Lifetime: c.AnycastLifetime, VRF: c.VRF, Log: n.log,
	})
}

// address returns the service address that the node keeps, nil for none.
func (n *Node) address() *anycast.Address {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.anycast
}

func (n *Node) setAddress(a *anycast.Address) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.anycast = a
}

// announce keeps the service address where it is to be, from the moment at which
// the node is ready until ctx is done, and takes it away then: packets that
// still come are served for the drain time, unless serving has ended.
func (n *Node) announce(ctx, serving context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-n.ready:
	}
	var err error
	for again := true; again && err == nil; {
		again, err = n.announceTurn(ctx)
	}
	a := n.address()
	if a == nil {
		return err
	}
	select {
	case <-serving.Done():
	case <-time.After(n.withdraw(a)):
	}
	return err
}

// withdraw takes the address away, and returns for how long packets that still
// come are to be served: not at all if it was not ours.
func (n *Node) withdraw(a *anycast.Address) (drain time.Duration) {
	if err := a.Withdraw(); err != nil {
		n.log.WithError(err).Warn("service address not withdrawn")
	}
	if !a.State().Draining {
		return 0
	}
	c := n.config()
	return c.DrainTime
}

// announceTurn keeps the address as the configuration of now has it, until
// ctx is done or another configuration is there, which again tells.
func (n *Node) announceTurn(ctx context.Context) (again bool, err error) {
	c := n.config()
	if !installs(&c) {
		return n.leave(ctx), nil
	}
	a := n.newAddress(&c)
	n.setAddress(a)
	actx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.Run(actx, n.Alive) }()
	select {
	case err := <-ended:
		return false, err
	case <-n.reannounce:
		cancel()
		return true, <-ended
	}
}

// leave takes away the address of the configuration before, if it had one, and
// serves for the drain time what still comes. Whoever keeps the address next
// removes the route that this takes. It returns once ctx is done, or the address
// is to be kept again.
func (n *Node) leave(ctx context.Context) (again bool) {
	a := n.address()
	var drained <-chan time.Time
	if a != nil {
		drained = time.After(n.withdraw(a))
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-n.reannounce:
			if c := n.config(); installs(&c) {
				return true
			}
		case <-drained:
			n.setAddress(nil)
			if err := a.Release(); err != nil {
				n.log.WithError(err).Warn("route to the service address not removed")
			}
		}
	}
}

// mayInstall returns why the node could not put the service address on the
// loopback interface, if it is to do that.
func (n *Node) mayInstall(c *config.Config) error {
	if !installs(c) {
		return nil
	}
	if err := n.newAddress(c).Check(); err != nil {
		return fmt.Errorf("%w: %w", errInstall, err)
	}
	return nil
}

// Cleanup removes what a node with this configuration that was killed may have
// left: its service address, which the kernel removes too once its lifetime is
// over, the route for draining, and programs on devices. It returns what that was,
// in words. An operator's address stays. Errors match ErrPrivilege where they are
// of that kind. The node must not run.
func Cleanup(cfg config.Config) (removed []string, err error) {
	n := Node{cfg: cfg}
	devices, err := tc.CleanUp()
	if err != nil {
		err = startup.New(err, ErrPrivilege, "removing programs from devices needs CAP_NET_ADMIN")
	}
	for _, d := range devices {
		removed = append(removed, "the program on device "+d)
	}
	if cfg.SvcnodeIP.IsUnspecified() {
		return removed, err
	}
	addresses, e := anycast.Cleanup(cfg.SvcnodeIP, cfg.VRF)
	if e != nil {
		err = errors.Join(err, n.explain(fmt.Errorf("%w: %w", errInstall, e)))
	}
	return append(removed, addresses...), err
}
