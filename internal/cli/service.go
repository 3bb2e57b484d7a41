// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"net/http"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/config"
	"vxsnd/internal/control"
	"vxsnd/internal/metrics/prom"
	"vxsnd/internal/preflight"
	"vxsnd/internal/process"
	"vxsnd/internal/registrar"
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
	// Metrics answers scrapes, nil where the service has no figures for them. fill
	// adds what they say of the process, and maxVNIs is how many VNIs have series of
	// their own.
	Metrics(fill func(*prom.Figures), maxVNIs func() int) http.Handler
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

// newService builds the service of a program. Tests put another one in its
// place.
var newService = func(p config.Program, c config.Config, log logrus.FieldLogger) (service, error) {
	if p == config.Vxrd {
		return newRegistrarService(c, log)
	}
	return newNodeService(c, log)
}

// needs is what a program with this configuration asks of the machine.
func needs(p config.Program, c *config.Config) preflight.Input {
	if p == config.Vxrd {
		return registrarNeeds(c)
	}
	return nodeNeeds(c)
}

// cleanUp removes what a crash of a program has left, and says in lines of text
// what that was.
func cleanUp(d *daemon) (said []string, err error) {
	if d.input.Program == config.Vxrd {
		return cleanUpEntries(d.running, d.stateFiles())
	}
	return cleanUpNode(d.running)
}

// restartCause is the cause with which SIGUSR2 ends a program's service, nil for
// one that knows no such end.
func restartCause(p config.Program) error {
	if p == config.Vxrd {
		return registrar.ErrRestart
	}
	return nil
}
