#include "server/transfer/peer.h"

#include <unistd.h>

#include "tests/support/status_matchers.h"
#include "tests/unit/server/transfer/hostile_client.h"

namespace mnemo {
namespace {

TEST(PeerTest, IsWhoConnected) {
  HostileClient client;
  ASSERT_OK_AND_ASSIGN(const Peer peer, Peer::Of(client.socket()));
  EXPECT_EQ(peer.pid(), client.pid());
  EXPECT_EQ(peer.uid(), ::geteuid());
  EXPECT_EQ(peer.gid(), ::getegid());
  EXPECT_TRUE(peer.IsAlive());
}

TEST(PeerTest, EndsForGoodWithItsProcess) {
  HostileClient client;
  ASSERT_OK_AND_ASSIGN(const Peer peer, Peer::Of(client.socket()));
  ASSERT_OK_AND_ASSIGN(const Peer clone, peer.Clone());
  EXPECT_TRUE(clone.IsAlive());
  client.Kill();
  EXPECT_FALSE(peer.IsAlive());
  EXPECT_FALSE(clone.IsAlive());
}

TEST(PeerTest, RefusesWhatIsNoUnixSocket) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const Descriptor read_end(ends[0]);
  const Descriptor write_end(ends[1]);
  EXPECT_THAT(Peer::Of(ends[0]), StatusIs(absl::StatusCode::kInternal));
}

TEST(PeerTest, WithoutAProcessIsNotAlive) {
  const Peer nobody;
  EXPECT_FALSE(nobody.IsAlive());
  EXPECT_THAT(nobody.Clone(), StatusIs(absl::StatusCode::kFailedPrecondition));
}

}  // namespace
}  // namespace mnemo
