// A list of panels, each a link. Rows keep their place in the document when others arrive, and so the focus.
export default {
  props: { rows: Array, empty: String },
  template: `
    <ol class="cards" aria-label="panels">
      <li v-for="row in rows" :key="row.token">
        <a class="card" :class="row.kind" :href="row.href" :data-token="row.token">
          <img v-if="row.thumb" :src="row.thumb" alt="" loading="lazy" width="160" height="120">
          <span v-else class="nothing">no picture</span>
          <span class="words">
            <strong>{{ row.name }}</strong>
            <span>{{ row.when }}</span>
            <span>{{ row.cause }}</span>
            <span v-if="row.measured">{{ row.measured }}</span>
            <span class="where">{{ row.where }}</span>
            <span class="state">{{ row.state }}</span>
          </span>
        </a>
      </li>
      <li v-if="!rows.length" class="none">{{ empty }}</li>
    </ol>`,
};
