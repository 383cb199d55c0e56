import walmap from './index.cjs';
export const { getLoadablePath, load } = walmap;
