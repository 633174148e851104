#include "storage/context/changed_contexts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace mnemo {
namespace {

using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

TEST(ChangedContextsTest, NamesEachOnceSinceTheLastCall) {
  ChangedContexts changed;
  EXPECT_THAT(changed.Take().contexts, IsEmpty());
  const KeyScope a{.tenant = 1, .space = 2};
  const KeyScope b{.tenant = 1, .space = 3};
  changed.Note(a);
  changed.Note(b);
  changed.Note(a);
  const ChangedContexts::Changes changes = changed.Take();
  EXPECT_THAT(changes.contexts, UnorderedElementsAre(a, b));
  EXPECT_FALSE(changes.all);
  EXPECT_THAT(changed.Take().contexts, IsEmpty());
}

TEST(ChangedContextsTest, OfTooManyItKnowsOnlyThatThereWere) {
  ChangedContexts changed;
  for (uint64_t i = 0; i < ChangedContexts::kMaxContexts; ++i) changed.Note({1, i});
  EXPECT_EQ(changed.Take().contexts.size(), ChangedContexts::kMaxContexts);
  for (uint64_t i = 0; i <= ChangedContexts::kMaxContexts; ++i) changed.Note({1, i});
  changed.Note({2, 1});
  EXPECT_TRUE(changed.Take().all);
  changed.Note({2, 1});
  const ChangedContexts::Changes after = changed.Take();
  EXPECT_FALSE(after.all);
  EXPECT_EQ(after.contexts.size(), 1U);
}

}  // namespace
}  // namespace mnemo
