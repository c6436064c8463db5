/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Plain and TLS sockets behind one face.
 *
 * Both ends prove that they know the key by TLS 1.3's external PSK; there are no certificates. A
 * client must not be content with a server that ignores the PSK and shows a certificate instead: it
 * verifies certificates against no authority at all, and takes a finished handshake only if the PSK
 * was used.
 */
#include "common/link_stream.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/cleanup.h"

#define TLS_SUITES "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"

static const unsigned char tls_identity[] = "snowflock";
static const unsigned char tls_aes_128_gcm_sha256[] = { 0x13, 0x01 };

/* The handshake errors that mean "not the same key": on the server's side, then on the client's. */
static const int wrong_key_reasons[] = {
	SSL_R_BINDER_DOES_NOT_VERIFY,	       SSL_R_NO_SHARED_CIPHER,
	SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, SSL_R_NO_SUITABLE_KEY_SHARE,
	SSL_R_CERTIFICATE_VERIFY_FAILED,       SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE,
	SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER,   SSL_R_TLSV1_ALERT_ACCESS_DENIED,
	SSL_R_TLSV1_ALERT_DECRYPT_ERROR,       SSL_R_TLSV1_ALERT_UNKNOWN_PSK_IDENTITY,
};

/* A BIO over the socket that, unlike OpenSSL's own, cannot raise SIGPIPE. */

static int bio_send(BIO *bio, const char *data, int len)
{
	const struct link_stream *stream = BIO_get_data(bio);
	ssize_t sent;

	do {
		sent = send(stream->fd, data, (size_t)len, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	BIO_clear_retry_flags(bio);
	if (sent < 0 && errno == EAGAIN)
		BIO_set_retry_write(bio);
	return (int)sent;
}

static int bio_recv(BIO *bio, char *data, int len)
{
	const struct link_stream *stream = BIO_get_data(bio);
	ssize_t got;

	do {
		got = recv(stream->fd, data, (size_t)len, 0);
	} while (got < 0 && errno == EINTR);
	BIO_clear_retry_flags(bio);
	if (got < 0 && errno == EAGAIN)
		BIO_set_retry_read(bio);
	return (int)got;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
	(void)bio;
	(void)number;
	(void)pointer;
	return command == BIO_CTRL_FLUSH;
}

static BIO *bio_open(struct link_stream *stream)
{
	static BIO_METHOD *method;
	BIO *bio;

	if (!method) {
		method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "link");
		if (!method)
			return NULL;
		BIO_meth_set_write(method, bio_send);
		BIO_meth_set_read(method, bio_recv);
		BIO_meth_set_ctrl(method, bio_control);
	}
	bio = BIO_new(method);
	if (bio) {
		BIO_set_data(bio, stream);
		BIO_set_init(bio, 1);
	}
	return bio;
}

/* The key as OpenSSL wants it: as a session to resume. Return: the caller's, or NULL. */
static SSL_SESSION *make_session(SSL *ssl)
{
	const struct link_stream *stream = SSL_get_app_data(ssl);
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, tls_aes_128_gcm_sha256);
	SSL_SESSION *session = SSL_SESSION_new();

	if (session && cipher &&
	    SSL_SESSION_set1_master_key(session, stream->key, LINK_KEY_BYTES) &&
	    SSL_SESSION_set_cipher(session, cipher) &&
	    SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION))
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

static int client_psk(SSL *ssl, const EVP_MD *md, const unsigned char **id, size_t *id_len,
		      SSL_SESSION **session)
{
	*session = NULL;
	if (md && md != EVP_sha256() && !EVP_MD_is_a(md, "SHA256"))
		return 0;
	*session = make_session(ssl);
	*id = tls_identity;
	*id_len = sizeof(tls_identity) - 1;
	return *session != NULL;
}

static int server_psk(SSL *ssl, const unsigned char *id, size_t id_len, SSL_SESSION **session)
{
	*session = NULL;
	if (id_len != sizeof(tls_identity) - 1 || memcmp(id, tls_identity, id_len))
		return 1; /* nobody we know: no PSK, and so no handshake */
	*session = make_session(ssl);
	return *session != NULL;
}

static SSL_CTX *make_context(enum stream_role role)
{
	SSL_CTX *ctx =
		SSL_CTX_new(role == STREAM_SERVER ? TLS_server_method() : TLS_client_method());

	if (!ctx)
		return NULL;
	if (!SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(ctx, TLS_SUITES) || !SSL_CTX_set_num_tickets(ctx, 0)) {
		SSL_CTX_free(ctx);
		return NULL;
	}
	SSL_CTX_set_mode(ctx, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
				      SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	if (role == STREAM_SERVER) {
		SSL_CTX_set_psk_find_session_callback(ctx, server_psk);
	} else {
		SSL_CTX_set_psk_use_session_callback(ctx, client_psk);
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	}
	return ctx;
}

int stream_start_tls(struct link_stream *stream, enum stream_role role,
		     const uint8_t key[LINK_KEY_BYTES])
{
	static SSL_CTX *contexts[2]; /* nothing in them is of one link */
	BIO *bio;

	if (!contexts[role])
		contexts[role] = make_context(role);
	if (!contexts[role])
		return -ENOMEM;
	stream->ssl = SSL_new(contexts[role]);
	bio = bio_open(stream);
	if (!stream->ssl || !bio) {
		SSL_free(stream->ssl);
		BIO_free(bio);
		stream->ssl = NULL;
		return -ENOMEM;
	}
	SSL_set_bio(stream->ssl, bio, bio);
	SSL_set_app_data(stream->ssl, stream);
	memcpy(stream->key, key, LINK_KEY_BYTES);
	if (role == STREAM_SERVER)
		SSL_set_accept_state(stream->ssl);
	else
		SSL_set_connect_state(stream->ssl);
	return 0;
}

static int stream_error(struct link_stream *stream, int error, const char *why)
{
	snprintf(stream->why, sizeof(stream->why), "%s", why);
	return -error;
}

static int tls_protocol_error(struct link_stream *stream)
{
	int reason = ERR_GET_REASON(ERR_peek_error());
	const char *text = ERR_reason_error_string(ERR_peek_error());

	ERR_clear_error();
	if (reason == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return stream_error(stream, ECONNRESET, "the other side vanished");
	for (size_t i = 0; !SSL_is_init_finished(stream->ssl) && i < ARRAY_SIZE(wrong_key_reasons);
	     i++) {
		if (reason == wrong_key_reasons[i])
			return stream_error(stream, EACCES,
					    "the other side does not have the same cluster key");
	}
	snprintf(stream->why, sizeof(stream->why), "TLS: %s", text ? text : "unknown error");
	return -EPROTO;
}

/* What an SSL call that returned <= 0 means. Return: 0 at the end of the stream, -EAGAIN or -errno.
 */
static int tls_outcome(struct link_stream *stream, int result, int saved_errno)
{
	switch (SSL_get_error(stream->ssl, result)) {
	case SSL_ERROR_ZERO_RETURN: return 0;
	case SSL_ERROR_WANT_READ: return -EAGAIN;
	case SSL_ERROR_WANT_WRITE: stream->want_write = true; return -EAGAIN;
	case SSL_ERROR_SYSCALL:
		ERR_clear_error();
		if (!saved_errno)
			return stream_error(stream, ECONNRESET, "the other side vanished");
		return stream_error(stream, saved_errno, strerror(saved_errno));
	default: return tls_protocol_error(stream);
	}
}

int stream_handshake(struct link_stream *stream)
{
	int done, error;

	if (!stream->ssl)
		return 0;
	stream->want_write = false;
	ERR_clear_error();
	errno = 0;
	done = SSL_do_handshake(stream->ssl);
	if (done <= 0) {
		error = tls_outcome(stream, done, errno);
		return error ? error : stream_error(stream, ECONNRESET, "the other side vanished");
	}
	OPENSSL_cleanse(stream->key, sizeof(stream->key));
	if (!SSL_session_reused(stream->ssl))
		return stream_error(stream, EACCES, "the other side did not use the cluster key");
	return 0;
}

ssize_t stream_read(struct link_stream *stream, void *buf, size_t len)
{
	ssize_t got;

	if (stream->ssl) {
		int done;

		stream->want_write = false;
		ERR_clear_error();
		errno = 0;
		done = SSL_read(stream->ssl, buf, len > INT32_MAX ? INT32_MAX : (int)len);
		return done > 0 ? done : tls_outcome(stream, done, errno);
	}
	do {
		got = recv(stream->fd, buf, len, 0);
	} while (got < 0 && errno == EINTR);
	if (got < 0 && errno != EAGAIN)
		return stream_error(stream, errno, strerror(errno));
	return got < 0 ? -EAGAIN : got;
}

bool stream_has_pending(const struct link_stream *stream)
{
	return stream->ssl && SSL_pending(stream->ssl) > 0;
}

ssize_t stream_write(struct link_stream *stream, const void *buf, size_t len)
{
	ssize_t sent;

	if (stream->ssl) {
		int done;

		stream->want_write = false;
		ERR_clear_error();
		errno = 0;
		done = SSL_write(stream->ssl, buf, len > INT32_MAX ? INT32_MAX : (int)len);
		if (done > 0)
			return done;
		sent = tls_outcome(stream, done, errno);
		return sent ? sent : stream_error(stream, EPIPE, "the other side closed it");
	}
	do {
		sent = send(stream->fd, buf, len, MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent < 0 && errno != EAGAIN)
		return stream_error(stream, errno, strerror(errno));
	return sent < 0 ? -EAGAIN : sent;
}

void stream_shutdown(struct link_stream *stream)
{
	if (stream->ssl && SSL_is_init_finished(stream->ssl))
		SSL_shutdown(stream->ssl);
	ERR_clear_error();
	shutdown(stream->fd, SHUT_WR);
}

void stream_close(struct link_stream *stream)
{
	SSL_free(stream->ssl);
	stream->ssl = NULL;
	OPENSSL_cleanse(stream->key, sizeof(stream->key));
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
}
