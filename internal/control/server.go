// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"vxsnd/internal/logging"
)

// acceptPause is how long Run waits after an error of accept that may pass,
// for want of descriptors say.
const acceptPause = 100 * time.Millisecond

// A Command is one verb.
type Command struct {
	// Name is what a request calls it.
	Name string
	// Run does it. It is called concurrently, once for each request under way. ctx
	// ends when the server stops, and that of a Stream also when the client is gone.
	//
	// An *Error that Run returns goes to the client as it is, any other one as
	// CodeFailed with its text.
	Run func(ctx context.Context, call *Call) error
	// Changes tells that the command is for root, the owner of the socket file and
	// the daemon's own user alone, and that the log is to say who gave it.
	Changes bool
	// Stream tells that the answer has no end of its own: the end of the client is
	// noticed at once, and 32 are run at once, with four more for root.
	Stream bool
	// Upload tells that the request is followed by data, for Call.Receive.
	Upload bool
}

// Options are what a Server is made of.
type Options struct {
	// Path is the file name of the socket.
	Path string
	// Commands are the verbs, each of another name.
	Commands []Command
	// Log is where to log; nil discards.
	Log logrus.FieldLogger
	// MaxClients is how many clients are served at once, 100 where 0; root gets
	// four more. One more than that takes the place of the client that has been
	// without a request for longest, where that is not root's alone, and where all
	// have a request under way it is told so and let go.
	MaxClients int
}

// A Server serves a management socket. Listen comes first, and then Run or
// Close; none of its methods may be called concurrently, except that a call of
// Run is meanwhile under way.
type Server struct {
	endpoint
	commands map[string]Command
	names    string // of the commands, for people
	log      logrus.FieldLogger
	repeats  logging.Limiter
	most     int // clients, but for root

	mu      sync.Mutex
	clients map[*conn]struct{} // that have a place
	streams int                // under way

	// The bounds on a client's time, constant but for tests.
	requestTime, idleTime, writeTime time.Duration
}

// New returns a Server, which does nothing until Listen.
func New(o Options) *Server {
	s := &Server{
		endpoint: endpoint{path: o.Path}, commands: map[string]Command{}, most: o.MaxClients, clients: map[*conn]struct{}{},
		log:         logging.OrDiscard(o.Log).WithField("task", "control"),
		requestTime: requestTime, idleTime: idleTime, writeTime: writeTime,
	}
	if s.most <= 0 {
		s.most = defaultClients
	}
	for _, c := range o.Commands {
		s.commands[c.Name] = c
	}
	s.names = strings.Join(slices.Sorted(maps.Keys(s.commands)), ", ")
	return s
}

// String names the task.
func (s *Server) String() string { return "control" }

// Listen opens the socket, with mode 0660, and with no more than that at any
// moment. A socket file that nobody listens at is replaced. It is an error if a process listens
// there, which the error names, and if the path is taken by anything but a
// socket, which is left alone. Clients can connect from now on; they are served
// once Run runs.
//
// Two calls at the same moment for one stale file may both succeed, and the
// later one has the path: something else must keep a second instance out.
func (s *Server) Listen() error { return s.listen() }

// Chown gives the socket file to the user and group that the daemon becomes.
// It is called after Listen.
func (s *Server) Chown(uid, gid int) error { return s.chown(uid, gid) }

// Close closes the socket and removes its file, if it is still the one that
// Listen made. Where the directory does not let go of it, it stays behind, which
// is no hindrance to the next Listen. Run does the same at its end: Close is for
// a Server that never runs. Without a Listen it does nothing.
func (s *Server) Close() error { return s.close() }

// Run serves clients until ctx is done, which is a success, and then closes the
// socket and removes its file. Answers under way are cut short with
// CodeStopping; a client that does not take that in holds Run up for a second at
// most, a Command that does not return does so for as long as it likes.
func (s *Server) Run(ctx context.Context) error {
	var clients sync.WaitGroup
	defer clients.Wait()
	closed := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { closed <- s.Close() })
	for {
		c, err := s.listener.AcceptUnix()
		switch {
		case err == nil:
			client := newConn(s, c)
			if s.admit(client) {
				clients.Go(func() { client.serve(ctx) })
			} else {
				client.refuse(ctx)
			}
		case ctx.Err() != nil:
			return <-closed
		case errors.Is(err, net.ErrClosed):
			stop()
			return err
		default:
			s.repeats.Do("accept", func(count int) {
				s.log.WithError(err).WithField("count", count).Warn("management client not accepted")
			})
			select {
			case <-ctx.Done():
			case <-time.After(acceptPause):
			}
		}
	}
}
