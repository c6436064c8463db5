// SPDX-License-Identifier: GPL-2.0-or-later
/* Serves three ports of the VM: 7001 gives back, 7002 counts until the end, 7003 gives 20 MB. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define GIVEN_BYTES 20000000u
#define PIECE_BYTES 8192

static void serve(int port, int fd)
{
	static char piece[PIECE_BYTES];
	size_t count = 0;
	ssize_t got;

	while (port == 7003 && count < GIVEN_BYTES &&
	       (got = write(fd, piece,
			    GIVEN_BYTES - count < PIECE_BYTES ? GIVEN_BYTES - count : PIECE_BYTES)) > 0)
		count += (size_t)got;
	while (port != 7003 && (got = read(fd, piece, PIECE_BYTES)) > 0) {
		count += (size_t)got;
		if (port == 7001 && write(fd, piece, (size_t)got) != got)
			return;
	}
	if (port == 7002)
		dprintf(fd, "%zu", count);
}

static int listen_at(int port)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 256)) {
		perror("guest-ports");
		exit(1);
	}
	return fd;
}

int main(void)
{
	signal(SIGCHLD, SIG_IGN);
	for (int port = 7001; port <= 7003; port++) {
		int listener = listen_at(port), fd;

		if (fork())
			continue;
		while ((fd = accept(listener, NULL, NULL)) >= 0) {
			if (!fork()) {
				serve(port, fd);
				_exit(0);
			}
			close(fd);
		}
		_exit(1);
	}
	return 0;
}
