// Package process runs programs as processes of their own: settled and nats-server,
// built from this tree and its dependencies, for the runners that try settled as it
// is deployed.
//
//  1. Only processes that were started here are signalled.
//  2. They end with the thread that started them, where the system can do that
//     (Linux), so that a runner that dies leaves nothing behind.
package process
