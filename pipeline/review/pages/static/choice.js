// A native list to choose one from, with its label.
export default {
  props: { label: String, options: Array, value: String, name: String },
  template: `
    <label class="field"><span>{{ label }}</span>
      <select :id="name" :value="value" @change="$emit('choose', $event.target.value)">
        <option v-for="[key, text] in options" :key="key" :value="key">{{ text }}</option>
      </select>
    </label>`,
};
