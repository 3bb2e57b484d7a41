// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"net/netip"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/node"
	"vxsnd/internal/preflight"
	"vxsnd/internal/process"
)

// A service is what a daemon runs. Listen, Run and Close are called in this
// order, each once; Close also where Listen failed. The other methods may be
// called between Listen and the end of Run, Prepare by one goroutine.
type service interface {
	Listen(ctx context.Context) error
	Run(ctx context.Context) error
	Close() error

	// Ready is closed when the service does what it is for.
	Ready() <-chan struct{}
	// Prepare does all that can fail on the way to another configuration.
	Prepare(c config.Config) (change, error)
	// Alive returns what of the service is stuck, nil if nothing is.
	Alive() error
	// Status says in one line how the service does.
	Status() string
	// Summary writes to the log what the service holds.
	Summary()
	// Commands are what the management socket answers; base fills in what an
	// answer says of the process.
	Commands(base func() control.Process) []control.Command
	// Needs is what the start-up checks compare the machine with.
	Needs() preflight.Input
	// Capabilities are those that the service cannot do without once it listens.
	Capabilities() []process.Capability
}

// A change is a configuration that a service is ready for: one of the two is
// called.
type change interface {
	Commit()
	Discard()
}

// newService builds the service node. Tests put another one in its place.
var newService = func(c config.Config, log logrus.FieldLogger) (service, error) {
	n, err := node.New(c, log)
	if err != nil {
		return nil, err
	}
	return &nodeService{n, c}, nil
}

// A nodeService is the service node as a daemon sees it.
type nodeService struct {
	*node.Node
	cfg config.Config // of the start
}

// Prepare calls that of the node.
func (s *nodeService) Prepare(c config.Config) (change, error) {
	p, err := s.Node.Prepare(c)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Commands are those of the node.
func (s *nodeService) Commands(base func() control.Process) []control.Command {
	return s.Node.Commands(func() control.Status { return control.Status{Process: base()} })
}

// Needs says what the configuration asks of the machine.
func (s *nodeService) Needs() preflight.Input { return nodeNeeds(&s.cfg) }

// nodeNeeds is what a service node with this configuration asks of the machine.
func nodeNeeds(c *config.Config) preflight.Input {
	in := preflight.Input{VRF: c.VRF}
	if !c.SvcnodeIP.IsUnspecified() {
		in.Anycast = c.SvcnodeIP
	}
	vteps := make(map[netip.Addr]struct{})
	for _, m := range c.VTEPMembership {
		if _, ok := vteps[m.Addr]; ok {
			continue
		}
		vteps[m.Addr] = struct{}{}
		if m.Addr.Is4() {
			in.Neighbours4++
		} else {
			in.Neighbours6++
		}
	}
	if c.EnableVXLANListen && !c.NoFlood {
		in.ReceiveBuffer = c.ReceiveQueue
		in.Ports = []uint16{c.VXLANListenPort, c.VXLANDestPort}
	}
	return in
}

// Capabilities are CAP_NET_RAW for flooding and CAP_NET_ADMIN for the service
// address on the loopback interface.
func (s *nodeService) Capabilities() []process.Capability {
	var caps []process.Capability
	if s.cfg.EnableVXLANListen && !s.cfg.NoFlood {
		caps = append(caps, process.NetRaw)
	}
	if s.cfg.InstallSvcnodeIP {
		caps = append(caps, process.NetAdmin)
	}
	return caps
}
